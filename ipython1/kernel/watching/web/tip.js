// One small note beside the pointer.

const tip = document.getElementById("tip");

export function showTip(text, x, y) {
  if (!text) { hideTip(); return; }
  if (tip.textContent !== text) tip.textContent = text;
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = x + 14 + box.width > innerWidth ? x - 12 - box.width : x + 14;
  const top = y + 16 + box.height > innerHeight ? y - 10 - box.height : y + 16;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, top)}px`;
}

export function hideTip() { tip.hidden = true; }
