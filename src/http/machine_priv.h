/*
 * The grammar of heads: it splits bytes into a start line and field lines, and does not know what they mean. It reports
 * each complete line to a sink. head.c is the sink that knows the rules; a test uses a sink that records. Private to
 * src/http.
 */
#ifndef HT_HTTP_MACHINE_PRIV_H
#define HT_HTTP_MACHINE_PRIV_H

#include "http/http.h"

enum http_event {
    HTTP_EV_REQUEST_LINE, /* m->a is the method, m->b the target; m->version */
    HTTP_EV_STATUS_LINE,  /* m->a is the reason; m->version, m->status */
    HTTP_EV_FIELD,        /* m->a is the name, m->b the value without white space around it; m->dirty */
    HTTP_EV_FOLD,         /* loose heads only: m->b continues the value of the last field */
    HTTP_EV_END,          /* the empty line */
};

enum http_kind {
    HTTP_REQUEST,
    HTTP_RESPONSE,
    HTTP_LOOSE_RESPONSE, /* accepts deviations from RFC 9112 that have only one meaning, and notes them in m->odd */
};

/* False stops the machine for good. m->version is 10 * major + minor. */
typedef bool http_sink_fn(void *ctx, enum http_event ev, const struct http_machine *m);

enum http_result {
    HTTP_MORE,    /* all bytes were read, and the head is not complete */
    HTTP_DONE,    /* the head is complete; m->pos is its length */
    HTTP_STOPPED, /* the sink has returned false */
    /* Syntax errors. The machine returns the same error again from then on. */
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
