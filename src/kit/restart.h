/*
 * A kit that is started anew while it serves (SIGUSR2): it has another program started, hands it its sockets and the
 * records of its sessions, and finishes what is under way. spec/restart.yaml has the rules of the conversation.
 *
 *   restart.c     the old kit, until the new one serves
 *   leave.c       the old kit, until it has finished
 *   successor.c   the new kit
 */
#ifndef HT_KIT_RESTART_H
#define HT_KIT_RESTART_H

#include "kit/kit.h"
#include "proc/starter.h"

/* ---- the old kit ---- */

struct restart;

struct restart_ops {
    void (*begins)(void *ctx);                  /* a program is being started */
    void (*hands_over)(void *ctx, pid_t pid);   /* from now on that process stands for the service; failed() takes it
                                                   back */
    void (*failed)(void *ctx, const char *why); /* it came to nothing, and this kit serves on */
    void (*left)(void *ctx, pid_t pid);         /* the new kit serves, this one only finishes */
    void (*finished)(void *ctx);                /* and has */
    void (*end)(void *ctx, const char *why);    /* this program has to end, as after SIGTERM */
};

/* NULL: out of memory. The starter outlives it. */
struct restart *restart_create(struct kit *k, struct io_loop *loop, const struct proc_starter *starter,
                               const struct restart_ops *ops, void *ctx) HT_MUST_USE;
/* Clears the pointer. NULL is ignored. */
void restart_destroy(struct restart **r);
/* Begins a restart. failed() is called, perhaps inside this call, when it comes to nothing. */
void restart_ask(struct restart *r);
/* The service ends: gives up a restart that is under way, and tells older kits. */
void restart_service_ends(struct restart *r);
/* The process that serves in place of this one. 0: this one serves, or the other one has ended. */
pid_t restart_heir(const struct restart *r);

/* ---- the new kit ---- */

/*
 * Says hello to the old kit at the other end of `fd`, which is owned from now on, and takes its own listening sockets
 * into the loop (io_inherit()). kit_create() comes next. Waits for the old kit. NULL: *err says why.
 */
struct successor *successor_begin(struct io_loop *loop, int fd, uint64_t timeout_ms, struct ht_errmsg *err) HT_MUST_USE;
/* The memory file with the certificate of the old kit, for kit_create_after(). It stays the successor's. -1: none. */
int successor_certificate(const struct successor *s);
/* Takes the sessions over, once this program is ready for everything. When it returns 0 the kit serves: the caller runs
 * the loop next, and calls successor_serving(). A negative error, with *err: this program must end. */
int successor_take(struct successor *s, struct kit *k, struct ht_errmsg *err) HT_MUST_USE;
/* Tells the old kit, which goes on as one of the kit's elders. Clears the pointer. */
void successor_serving(struct successor **s, struct kit *k);
/* Tells the old kit why this program ends. */
void successor_refuse(struct successor *s, const char *why);
/* Clears the pointer. NULL is ignored. */
void successor_destroy(struct successor **s);

#endif
