"""Block I/O by size, as a histogram."""
from osmia import log2_hist, run, tracepoint

kbytes = log2_hist("kbytes")

@tracepoint("block:block_rq_issue")
def issue(rq):
    kbytes.add(rq.bytes // 1024)

run()
