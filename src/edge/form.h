/*
 * What a browser sends from the page to log in: the body of a form, the way back, and where the form came from. Pure:
 * it knows bytes alone.
 */
#ifndef HT_EDGE_FORM_H
#define HT_EDGE_FORM_H

#include "base/base.h"

#define EDGE_RETURN_MAX 2048 /* bytes of a way back */

/* One byte of an encoded text off *s, which is not empty; a + is a blank. What follows a % and is no number stands for
 * itself. */
int edge_form_byte(struct ht_slice *s);

/* A member of a form; `out` has `cap` bytes. Filled in by edge_form_read(). */
struct edge_form_member {
    const char *name;
    char *out;
    size_t cap;
    size_t n;
    unsigned times; /* that it stands there, 2 for more */
    bool too_long;  /* it has more bytes than `cap`, or a NUL; n is 0 then */
};

/* Reads application/x-www-form-urlencoded. What has another name is left aside. */
void edge_form_read(struct ht_slice body, struct edge_form_member *members, size_t n);

/*
 * Whether a browser may be sent there after a login: a path of the same host, with or without a query. So it begins
 * with one /, has no backslash, blank, control byte or byte above 126, and is no page of the edge itself.
 */
bool edge_is_return(struct ht_slice target);

/* Whether a request with a form comes from a page of this host: `host` is the visitor's Host, with its port. Without
 * Origin and without Sec-Fetch-Site it is not, since each browser sends one of them. Empty: there is no such field. */
bool edge_is_own_form(struct ht_slice host, struct ht_slice origin, struct ht_slice fetch_site);

#endif
