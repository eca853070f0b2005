/*
 * The head grammar by itself: which bytes make a start line and field lines, nothing of what they mean. It reports
 * whole lines to a sink, so that a test can record and replay them; head.c is the sink that knows the rules. Private to
 * src/http.
 */
#ifndef HT_HTTP_MACHINE_PRIV_H
#define HT_HTTP_MACHINE_PRIV_H

#include "http/http.h"

enum http_event {
    HTTP_EV_REQUEST_LINE, /* m->a the method, m->b the target, m->version */
    HTTP_EV_STATUS_LINE,  /* m->a the reason, m->version, m->status */
    HTTP_EV_FIELD,        /* m->a the name, m->b the value without white space around it; m->dirty */
    HTTP_EV_FOLD,         /* loose: m->b goes on with the value of the last field */
    HTTP_EV_END,          /* the empty line */
};

enum http_kind {
    HTTP_REQUEST,
    HTTP_RESPONSE,
    HTTP_LOOSE_RESPONSE, /* what can be read in one way only, though it is not what RFC 9112 says: m->odd */
};

/* False stops the machine for good. m->version is 10 * major + minor. */
typedef bool http_sink_fn(void *ctx, enum http_event ev, const struct http_machine *m);

enum http_result {
    HTTP_MORE,    /* all bytes looked at, the head is not complete */
    HTTP_DONE,    /* m->pos is the length of the head */
    HTTP_STOPPED, /* by the sink */
    /* Syntax errors; the machine stays there. */
    HTTP_BAD_LINE_END,
    HTTP_BAD_METHOD,
    HTTP_BAD_TARGET,
    HTTP_LONG_TARGET,
    HTTP_BAD_VERSION,
    HTTP_BAD_STATUS,
    HTTP_BAD_REASON,
    HTTP_BAD_NAME,
    HTTP_FOLDED,
    HTTP_BAD_VALUE,
};

void http_machine_begin(struct http_machine *m, enum http_kind kind, uint32_t max_target);
enum http_result http_machine_run(struct http_machine *m, const char *buf, uint32_t len, http_sink_fn *sink, void *ctx);

#endif
