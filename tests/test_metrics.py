"""Metrics against other libraries, closed forms and what they mean; and `evaluate`."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import xaimaps
from xaimaps import metrics
from xaimaps._cli import cli
from xaimaps._images.preprocess import PRESETS
from xaimaps.errors import ArrayInputError, InputImageError, MethodError, TargetError
from xaimaps.metrics._case import Case
from xaimaps.metrics._correlation_checks import placeholder  # noqa: F401
