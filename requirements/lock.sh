#!/bin/sh
# Resolve the two environments anew and write every version down. usage: lock.sh PYTHON
# torch stays at the version named here: any other choice pulls gigabytes of CUDA packages on a CPU machine.
set -eu
python=$1
torch=torch==2.13.0
for kind in run:oracle dev:dev; do
  name=${kind%%:*} extra=${kind##*:}
  folder=$(mktemp -d)
  "$python" -m venv "$folder/venv"
  "$folder/venv/bin/python" -m pip install --quiet "$torch" "setuptools>=77" wheel
  "$folder/venv/bin/python" -m pip install --quiet -e ".[$extra]"
  {
    echo "# Made by requirements/lock.sh from pyproject.toml, extra $extra; do not edit."
    "$folder/venv/bin/python" -m pip freeze --all --exclude-editable | grep -v '^pip==' | sed 's/+cpu$//'
  } > "requirements/$name.lock"
  rm -rf "$folder"
done
