/* What this process, and programs that it starts, may do without being root. */
#ifndef HT_PROC_CAPS_H
#define HT_PROC_CAPS_H

#include "base/base.h"

enum proc_cap {
    PROC_CAP_NET_ADMIN,        /* sockets with addresses of others, rules and routes */
    PROC_CAP_NET_BIND_SERVICE, /* ports below net.ipv4.ip_unprivileged_port_start */
};

/* This process has it. */
bool proc_caps_has(enum proc_cap cap);
/* A program that it starts has it: the process is root and has it, or it is an ambient capability. */
bool proc_caps_inherited(enum proc_cap cap);

#endif
