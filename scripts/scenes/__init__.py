# SPDX-License-Identifier: Apache-2.0
"""Scenes for the examples of the tools' pages: every module here has ``SCENES``, names to scenes."""
