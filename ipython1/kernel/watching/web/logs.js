// The end of a log file, read again every second while it can be seen.

const MOST = 200000;

export class Logs {
  constructor() {
    this.card = document.getElementById("log-card");
    this.choice = document.getElementById("log-name");
    this.follow = document.getElementById("log-follow");
    this.text = document.getElementById("log");
    this.place = "";
    this.names = "";
    this.seen = false;
    this.choice.addEventListener("change", () => this.start());
    this.text.addEventListener("scroll", () => {
      const atEnd = this.text.scrollTop + this.text.clientHeight >= this.text.scrollHeight - 4;
      if (!atEnd && !this.own) this.follow.checked = false;
      this.own = false;
    }, {passive: true});
    this.follow.addEventListener("change", () => this.toEnd());
    new IntersectionObserver((entries) => { this.seen = entries[entries.length - 1].isIntersecting; }).observe(this.card);
    this.list();
    setInterval(() => { if (!document.hidden) this.list(); }, 10000);
    setInterval(() => { if (this.seen && !document.hidden) this.read(); }, 1000);
  }

  async list() {
    try {
      const names = await (await fetch("logs")).json();
      this.card.hidden = !names.length;
      if (names.join() === this.names) return;
      this.names = names.join();
      const chosen = this.choice.value;
      this.choice.replaceChildren(...names.map((name) => new Option(name.replace(/\.log$/, ""), name)));
      if (names.includes(chosen)) this.choice.value = chosen;
      else if (names.length) this.start();
    } catch { /* the next time */ }
  }

  start() {
    this.place = "";
    this.text.textContent = "";
    this.follow.checked = true;
    this.read();
  }

  async read() {
    const name = this.choice.value;
    if (!name || this.reading) return;
    this.reading = true;
    try {
      const answer = await fetch(`log?name=${encodeURIComponent(name)}&place=${encodeURIComponent(this.place)}`);
      if (!answer.ok) { this.text.textContent = await answer.text(); this.place = ""; return; }
      const {text, next, fresh} = await answer.json();
      if (name !== this.choice.value) return;
      this.place = next;
      if (fresh) this.text.textContent = text;
      else if (text) this.text.append(text);
      else return;
      if (this.text.textContent.length > MOST) this.text.textContent = this.text.textContent.slice(-MOST / 2);
      this.toEnd();
    } catch { /* the next time */ } finally {
      this.reading = false;
      if (name !== this.choice.value) this.read();
    }
  }

  toEnd() {
    if (!this.follow.checked) return;
    this.own = true;
    this.text.scrollTop = this.text.scrollHeight;
  }
}
