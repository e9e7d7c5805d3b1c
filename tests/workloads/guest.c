// SPDX-License-Identifier: Apache-2.0
// A guest of KVM that sends a number of bytes to a port, one after the other, and halts.
//
// usage: guest BYTES [wait]
//
// With "wait" it begins when a line is read.  Writes how many bytes came and how many halts; status 2 where no
// guest can be made.

#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

static int failed(const char *what)
{
	perror(what);
	return 2;
}

int main(int argc, char **argv)
{
	int bytes = argc > 1 ? atoi(argv[1]) : 1, sent = 0, halts = 0;
#if defined(__x86_64__)
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm, cpu, size;
	struct kvm_sregs segments;
	struct kvm_regs registers = { .rip = 0x1000, .rflags = 2 };
	struct kvm_run *run;
	unsigned char *memory;
	// mov cx, bytes; mov dx, 0x3f8; again: out dx, al; loop again; hlt
	unsigned char code[] = { 0xb9, bytes, bytes >> 8, 0xba, 0xf8, 0x03, 0xee, 0xe2, 0xfd, 0xf4 };

	if (kvm < 0 || (vm = ioctl(kvm, KVM_CREATE_VM, 0)) < 0)
		return failed("KVM_CREATE_VM");
	memory = mmap(NULL, 0x1000, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	memcpy(memory, code, sizeof(code));
	struct kvm_userspace_memory_region region = {
		.guest_phys_addr = 0x1000, .memory_size = 0x1000, .userspace_addr = (unsigned long)memory,
	};
	if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) < 0 || (cpu = ioctl(vm, KVM_CREATE_VCPU, 0)) < 0)
		return failed("KVM_CREATE_VCPU");
	size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, cpu, 0);
	if (run == MAP_FAILED || ioctl(cpu, KVM_GET_SREGS, &segments) < 0)
		return failed("KVM_GET_SREGS");
	segments.cs.base = segments.cs.selector = 0;
	if (ioctl(cpu, KVM_SET_SREGS, &segments) < 0 || ioctl(cpu, KVM_SET_REGS, &registers) < 0)
		return failed("KVM_SET_REGS");
	if (argc > 2)
		getchar();
	while (!halts) {
		if (ioctl(cpu, KVM_RUN, 0) < 0)
			return failed("KVM_RUN");
		if (run->exit_reason == KVM_EXIT_IO)
			sent++;
		else if (run->exit_reason == KVM_EXIT_HLT)
			halts++;
		else
			return 2;
	}
#else
	return 2;
#endif
	printf("%d %d\n", sent, halts);
	fflush(stdout);
	if (argc > 2)
		getchar();
	return 0;
}
