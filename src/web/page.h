/* A page that is part of the program: one file with all that it needs, made from src/web/pages (page_gen.h). */
#ifndef HT_WEB_PAGE_H
#define HT_WEB_PAGE_H

#include "base/base.h"

struct web_conn;

struct web_page_copy {
    struct ht_slice bytes;
    const char *headers; /* lines, each with its CRLF */
};

struct web_page {
    struct web_page_copy plain, packed; /* packed: by gzip */
};

/* Answers the request, compressed when it accepts that. As web_reply(). */
bool web_page_reply(struct web_conn *c, const struct web_page *page) HT_MUST_USE;

#endif
