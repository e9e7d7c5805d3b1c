# SPDX-License-Identifier: Apache-2.0
"""Pure functions over plain values: tables, histograms, machine-readable records.

Values go in, text comes out; nothing here needs root, a kernel or a terminal,
so every view can be tested with literals.  Nothing is imported here on
purpose: a tool pays only for the view that it prints.

One convention holds throughout: a function that is named after *one* line
(``header``, ``row``, ``json_line``, ``csv_row`` ...) returns it without its
newline; a function that returns a block (``rows``, ``text``, ``print_...``)
ends every line with one.
"""
