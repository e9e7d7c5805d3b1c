# SPDX-License-Identifier: Apache-2.0
"""Python function → typed program → LLVM IR → CO-RE object.  Touches no machine."""
