/*
 * The starter: a small process beside the kit that starts the program anew (SIGUSR2).
 *
 * The kit cannot do that itself. A seccomp filter, the loss of root and no_new_privs stay in force over execve(2), so
 * the new program, perhaps another version, could neither start nor ever get more rights than the old one. So the
 * process forks before it gives anything up. One half becomes the kit; the other half waits on a socket for one letter.
 * It starts one program, the one that it was itself, with the arguments, environment and folder that it was started
 * with, and a socket to the kit that asked. That is all that a kit can get out of it.
 *
 * Usually the starter is the child, and a new kit has another process number. Where the number must not change, because
 * it is process 1 of a container or a supervisor watches it, the starter is the parent (`keep_pid`): it passes signals
 * on, and ends when the kits have ended, with the status of the present one.
 */
#ifndef HT_PROC_STARTER_H
#define HT_PROC_STARTER_H

#include "base/base.h"
#include "base/err.h"
#include "proc/slots.h"

#include <sys/types.h>

struct proc_starter {
    int fd;       /* SOCK_SEQPACKET, non-blocking; readable when proc_starter_next() has something. -1: there is none */
    bool parent;  /* it is the parent: when it is gone, the kit ends too */
    pid_t number; /* under which the service is known: the parent's, or that of this process */
};

struct proc_starter_config {
    bool keep_pid;
    const char *pid_file;           /* NULL: none */
    const struct proc_slots *slots; /* which it may be asked to put on the disk; NULL: none */
};

/*
 * Forks the starter, or with `keep_pid` the kit, in which this returns; the starter never returns from here. Call it
 * with one thread, and while descriptors from 3 on are ones that are closed in programs that are started. In a program
 * that was started by a parent it takes that one. 0; with *err: HT_EIO, HT_ENOMEM, and *s has no starter: the kit can
 * work, and cannot be restarted.
 */
int proc_starter_begin(struct proc_starter *s, const struct proc_starter_config *cfg,
                       struct ht_errmsg *err) HT_MUST_USE;
void proc_starter_close(struct proc_starter *s);

/* ---- what the kit asks for. Each is one message; HT_EIO: the starter is gone ---- */

int proc_starter_start(const struct proc_starter *s) HT_MUST_USE; /* PROC_STARTED or PROC_NOT_STARTED follows */
int proc_starter_kill(const struct proc_starter *s);              /* the program that it started; PROC_ENDED follows */
/* This kit serves now: writes the pid file. */
int proc_starter_serving(const struct proc_starter *s);
/* Another kit serves now, and the pid file is that one's from here on. */
int proc_starter_left(const struct proc_starter *s);
/* A restart came to nothing: leaves the reason in the file PID_FILE.failed, for `hoody-tunnel restart`, and sees to it
 * that the pid file names this kit, wherever the other one had come to. */
int proc_starter_failed(const struct proc_starter *s, const char *why);
/* Puts file `i` of the slots on the disk, so that the kit does not wait for it. */
int proc_starter_sync(const struct proc_starter *s, unsigned i);

/* ---- what it says ---- */

enum proc_starter_said {
    PROC_STARTED, /* pid, and fd: the socket to the new program, SOCK_SEQPACKET, non-blocking. The caller closes it */
    PROC_NOT_STARTED, /* text */
    PROC_ENDED,       /* pid, text: "ended with status 3", "was killed by signal 9" */
    PROC_WARNING,     /* text */
};

struct proc_starter_event {
    enum proc_starter_said said;
    pid_t pid;
    int fd; /* -1: none */
    char text[256];
};

/* The next event. HT_OK; HT_EAGAIN: there is none now; HT_ECLOSED: the starter is gone. */
int proc_starter_next(const struct proc_starter *s, struct proc_starter_event *e) HT_MUST_USE;

/* In a program that was started: the socket to the kit that asked for it, and takes it out of the environment. -1: it
 * was started in another way. HT_EINVAL with *err: the variable is not what a starter says. */
int proc_starter_channel(struct ht_errmsg *err) HT_MUST_USE;

#endif
