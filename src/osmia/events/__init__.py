# SPDX-License-Identifier: Apache-2.0
"""Events from kernel to user side: ring buffer, bulk decoding, prints, losses."""
