#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

const char *ht_err_text(int err) {
    switch (err) {
    case HT_OK:
        return "no error";
#define HT_ERR_CASE(name, value, text)                                                                                 \
    case name:                                                                                                         \
        return text;
        HT_ERR_LIST(HT_ERR_CASE)
#undef HT_ERR_CASE
    default:
        return err > 0 ? "no error" : "unknown error";
    }
}

int ht_err_from_errno(int e) {
    switch (e) {
    case 0:
        return HT_OK;
    case EAGAIN:
#if EAGAIN != EWOULDBLOCK
    case EWOULDBLOCK:
#endif
    case EINTR:
        return HT_EAGAIN;
    case ENOMEM:
    case ENOBUFS:
        return HT_ENOMEM;
    case EMFILE:
    case ENFILE:
        return HT_EFDS;
    case ECONNREFUSED:
        return HT_EREFUSED;
    case ECONNRESET:
    case EPIPE:
    case ECONNABORTED:
        return HT_ERESET;
    case ETIMEDOUT:
        return HT_ETIMEDOUT;
    case EADDRINUSE:
        return HT_EINUSE;
    case EADDRNOTAVAIL:
        return HT_EADDR;
    case EACCES:
    case EPERM:
        return HT_EACCESS;
    case EHOSTUNREACH:
    case ENETUNREACH:
        return HT_EUNREACH;
    case EINVAL:
        return HT_EINVAL;
    default:
        return HT_EIO;
    }
}

int ht_fail(struct ht_errmsg *e, int err, const char *fmt, ...) {
    if (e) {
        va_list ap;
        va_start(ap, fmt);
        int n = vsnprintf(e->text, sizeof e->text, fmt, ap);
        va_end(ap);
        if (n < 0)
            e->text[0] = '\0';
        else if ((size_t)n >= sizeof e->text)
            memcpy(e->text + sizeof e->text - 4, "...", 4);
    }
    return err;
}
