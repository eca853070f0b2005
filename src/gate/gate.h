/*
 * The gate stands in front of an exposed service. It decides who may visit it, by address and by login, and changes the
 * heads of requests and answers as the user asks for. A request that it lets in goes to a relay_target.
 *
 *   gate.c       a request: decided, changed, passed on or answered here
 *   visitor.c    whose request it is: the address, through trusted edges
 *   forwarded.c  Host, Origin and what tells the service about the visitor
 *   rules.c      header fields that are set, added and removed
 *   pages.c      the user's own pages for errors
 */
#ifndef HT_GATE_GATE_H
#define HT_GATE_GATE_H

#include "base/base.h"
#include "base/err.h"
#include "io/io.h"
#include "mux/mux.h"
#include "relay/origin.h"
#include "wire_gen.h"

enum gate_forwarded {
    GATE_FORWARDED_AUTO, /* set when Host is changed, else passed on */
    GATE_FORWARDED_PASS,
    GATE_FORWARDED_SET,
};

/* What the user asks for. All of it is copied. */
struct gate_options {
    const char *host_header; /* NULL or "preserve": the visitor's; "rewrite": the service's; else this value */
    enum gate_forwarded forwarded;
    const char *const *request_headers, *const *response_headers; /* as in gate/rules.h */
    size_t n_request_headers, n_response_headers;
    const char *const *allow, *const *deny, *const *edges; /* networks, such as 10.0.0.0/8; several with commas */
    size_t n_allow, n_deny, n_edges;
    const char *passwords;    /* file, as in auth/passwords.h; NULL: no login */
    bool keep_credentials;    /* the service gets the visitor's Authorization, too */
    const char *const *pages; /* as in gate/pages.h */
    size_t n_pages;
};

struct gate_config {
    struct io_loop *loop;
    struct gate_options options;
    const char *authority; /* Host of the service: host:port, or localhost for a Unix socket; copied */
    bool secure;           /* the service is reached by TLS */
    /* A request was refused. May be NULL. Must not destroy the gate. */
    void (*finished)(void *ctx, const struct relay_request_info *info);
    /* Visitors get no answer that a person would expect: `text` says why, for a person. */
    void (*trouble)(void *ctx, const char *text);
    void *ctx;
};

struct gate;

/* True when the options ask for a gate. */
bool gate_wanted(const struct gate_options *o);
/* Reads the files, too. NULL: *rc is HT_EINVAL, HT_EIO (a file) or HT_ENOMEM, and *err says why. */
struct gate *gate_create(const struct gate_config *cfg, int *rc, struct ht_errmsg *err) HT_MUST_USE;
/* Ends the requests that wait, and answers that are under way. Clears the pointer. NULL is ignored. */
void gate_destroy(struct gate **g);
/* Serves a new HTTP stream: it is answered here, or passed on to `to`. */
void gate_serve(struct gate *g, struct relay_target *to, struct mux_stream *st, const struct wire_stream_open *open);
/* Where visitors reach the service, such as https://web.example.com: it tells whether they use https. */
void gate_set_urls(struct gate *g, const char *const *urls, size_t n);
/* Reads the files again. A file that cannot be read is told by trouble(), and what was read before stays. */
void gate_reload(struct gate *g);

/* For relay_target_config.answers and .fails; ctx: what owns the gate calls them with it. */
size_t gate_answers(struct gate *g, struct ht_slice note, uint16_t status, struct wire_header *fields, size_t n,
                    size_t cap);
bool gate_fails(struct gate *g, struct mux_stream *st, const struct relay_failure *f);

unsigned gate_waiting(const struct gate *g); /* requests whose login is being checked */

#endif
