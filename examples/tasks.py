# SPDX-License-Identifier: Apache-2.0
"""List the threads of the system, read from the kernel by an iterator."""

from osmia import iterator, run


@iterator("task")
def show(record):
    task = record.task
    if task:
        print(f"PID {task.tgid} TID {task.pid} {task.comm}, child of {task.real_parent.comm}")


run()
