/*
 * A page that is part of the program. gen/page.py makes it from src/web/pages: one file with its styles and scripts,
 * and a Content-Security-Policy that names their hashes (page_gen.h).
 */
#ifndef HT_WEB_PAGE_H
#define HT_WEB_PAGE_H

#include "base/base.h"

struct web_conn;

struct web_page_copy {
    struct ht_slice bytes;
    const char *headers; /* field lines of the answer, each with its CRLF */
};

struct web_page {
    struct web_page_copy plain, packed; /* packed: compressed with gzip */
};

/* Answers the request with the page, compressed if the request accepts gzip (RFC 9110 12.5.3). False: as web_reply().
 */
bool web_page_reply(struct web_conn *c, const struct web_page *page) HT_MUST_USE;

#endif
