/* The conversation between an old kit and a new one (spec/restart.yaml): messages of a socket that keeps them apart,
 * with descriptors beside them. */
#ifndef HT_KIT_HANDOFF_H
#define HT_KIT_HANDOFF_H

#include "base/base.h"
#include "base/err.h"
#include "restart_gen.h"

/* A message that was received. Its texts point into `text`. */
struct handoff_got {
    struct restart_message m;
    int fds[RESTART_LIMIT_MAX_SOCKETS]; /* whoever takes one sets it to -1 */
    size_t n_fds;
    uint8_t text[RESTART_LIMIT_MAX_MESSAGE];
    char arena[RESTART_LIMIT_MAX_MESSAGE];
};

/* Sends a message. `wait_ms`: how long it may wait for room. 0, HT_ECLOSED, HT_ETIMEDOUT, HT_EINVAL. */
int handoff_send(int fd, const struct restart_message *m, const int *fds, size_t n_fds, uint64_t wait_ms) HT_MUST_USE;
/* Receives one, from `sender` (enum restart_role). 0 with *got; HT_ETIMEDOUT: none came in that time (HT_EAGAIN when it
 * is 0); HT_ECLOSED: the other side is gone; HT_EPROTO: it was no message. The caller calls handoff_drop() for each 0.
 */
int handoff_receive(int fd, unsigned sender, struct handoff_got *got, uint64_t wait_ms) HT_MUST_USE;
/* Closes the descriptors that nobody took. */
void handoff_drop(struct handoff_got *got);

#endif
