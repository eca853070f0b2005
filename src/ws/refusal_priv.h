/* What an answer is that refuses an upgrade: said in words for people. Pure. */
#ifndef HT_WS_REFUSAL_PRIV_H
#define HT_WS_REFUSAL_PRIV_H

#include "http/http.h"

#define WS_REFUSAL_MAX 260
#define WS_EXCERPT_MAX 200 /* most bytes of a body that are shown */

/*
 * Writes what a reader can tell the server by, printable and with a NUL, as it follows the status line: where a
 * redirection leads, who wants what login, the title of a page, or the beginning of a body that is no page. "" when
 * there is nothing. `buf` is what `h` was parsed from, and body[0..n) what came behind; it may be decoded in place.
 */
void ws_refusal_text(const struct http_head *h, const char *buf, char *body, size_t n, char out[WS_REFUSAL_MAX]);
/* A 401 that wants something else than a bearer token, so it is not the kit's. */
bool ws_refusal_is_login(const struct http_head *h, const char *buf);

#endif
