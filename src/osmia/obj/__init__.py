# SPDX-License-Identifier: Apache-2.0
"""Object files and BTF to specs and back: bytes in, values out, no kernel asked."""
