#include "proc/caps.h"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static unsigned number(enum proc_cap cap) { return cap == PROC_CAP_NET_ADMIN ? CAP_NET_ADMIN : CAP_NET_BIND_SERVICE; }

bool proc_caps_has(enum proc_cap cap) {
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};
    return syscall(SYS_capget, &head, data) == 0 && (data[0].effective >> number(cap) & 1);
}

bool proc_caps_inherited(enum proc_cap cap) {
    if (geteuid() == 0)
        return proc_caps_has(cap);
    return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, number(cap), 0, 0) == 1;
}
