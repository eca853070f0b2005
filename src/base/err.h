/*
 * Error codes inside the program; hoody_tunnel.h has the library's. A function that can fail returns 0 or a count on
 * success, and one of these negative codes on failure. Each code has a text.
 */
#ifndef HT_BASE_ERR_H
#define HT_BASE_ERR_H

#include "base/base.h"

#define HT_ERR_LIST(X)                                                                                                 \
    X(HT_EAGAIN, -1, "would block: try again when it is ready")                                                        \
    X(HT_EOF, -2, "end of the input")                                                                                  \
    X(HT_ENOMEM, -3, "out of memory")                                                                                  \
    X(HT_EPROTO, -4, "the peer broke the protocol")                                                                    \
    X(HT_ELIMIT, -5, "a limit was reached")                                                                            \
    X(HT_ECLOSED, -6, "already closed")                                                                                \
    X(HT_EINVAL, -7, "invalid argument")                                                                               \
    X(HT_EIO, -8, "input/output error")                                                                                \
    X(HT_ESPACE, -9, "does not fit in the space given")                                                                \
    X(HT_ETIMEDOUT, -10, "timed out")                                                                                  \
    X(HT_EREFUSED, -11, "connection refused")                                                                          \
    X(HT_EINUSE, -12, "address already in use")                                                                        \
    X(HT_EACCESS, -13, "permission denied")                                                                            \
    X(HT_ERESOLVE, -14, "host name could not be resolved")                                                             \
    X(HT_ETLS, -15, "TLS failed")                                                                                      \
    X(HT_EAUTH, -16, "authentication failed")                                                                          \
    X(HT_EFDS, -17, "no file descriptor left")                                                                         \
    X(HT_ERESET, -18, "connection reset by the peer")                                                                  \
    X(HT_EUNREACH, -19, "host or network unreachable")                                                                 \
    X(HT_EADDR, -20, "address not available")                                                                          \
    X(HT_ECERTDATE, -21, "the certificate is out of date, or not valid yet")                                           \
    X(HT_ECERTNAME, -22, "the certificate is for another name")                                                        \
    X(HT_ECERTCA, -23, "the certificate's authority is unknown")

enum ht_err {
    HT_OK = 0,
#define HT_ERR_ENUM(name, value, text) name = (value),
    HT_ERR_LIST(HT_ERR_ENUM)
#undef HT_ERR_ENUM
};

/* True for each code that means that TLS failed. */
static inline bool ht_err_is_tls(int err) {
    return err == HT_ETLS || err == HT_ECERTDATE || err == HT_ECERTNAME || err == HT_ECERTCA;
}

/* The text of any code; never NULL. Static storage. */
const char *ht_err_text(int err);

/* The code for an errno value; HT_EIO when the value has no code of its own. */
int ht_err_from_errno(int errnum);

/* An error message for people, in storage of its own. A text that is too long ends in "...". */
struct ht_errmsg {
    char text[512];
};

/* Formats a message into `e`, which may be NULL, and returns `err`. Use: return ht_fail(e, HT_EINVAL, "..."). */
int ht_fail(struct ht_errmsg *e, int err, const char *fmt, ...) HT_PRINTF(3, 4);

#endif
