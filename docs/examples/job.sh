#!/bin/sh
#SBATCH --comment=interactive
{setup}
export SCRATCH="/tmp/$USER-{job}"
mkdir -p "$SCRATCH"
exec {engine}
