/*
 * A user's own pages for answers that the gate gives itself, and for errors of the service: "FILE" for every status, or
 * "STATUS=FILE". The file's end says what it is: .html, .json, or anything else for plain text. A page is used for
 * requests that would have its type. {status}, {title}, {code} and {message} in it are replaced, escaped as its type
 * wants it.
 */
#ifndef HT_GATE_PAGES_H
#define HT_GATE_PAGES_H

#include "base/base.h"
#include "base/buf.h"
#include "base/err.h"
#include "relay/reply.h"

#define GATE_PAGES_MAX 16
#define GATE_PAGE_FILE 65536 /* most bytes of a file */
#define GATE_PAGE_OUT (2 * GATE_PAGE_FILE)

struct gate_page {
    uint16_t status; /* 0: any */
    enum relay_form form;
    char *text;
    size_t n;
};

struct gate_pages {
    struct gate_page pages[GATE_PAGES_MAX];
    size_t n;
};

/* Reads the files. 0, HT_ENOMEM, or HT_EINVAL or HT_EIO with *err. The caller frees *p in each case. */
int gate_pages_load(struct gate_pages *p, const char *const *texts, size_t n, struct ht_errmsg *err) HT_MUST_USE;
void gate_pages_free(struct gate_pages *p);
/* The page for an answer: one of its status goes before one for any. NULL: there is none. */
const struct gate_page *gate_pages_find(const struct gate_pages *p, uint16_t status, enum relay_form form);
/* Writes the page. 0, HT_ENOMEM, or HT_ESPACE: it would have more than GATE_PAGE_OUT bytes. */
int gate_page_put(const struct gate_page *p, struct ht_buf *b, uint16_t status, const char *code,
                  const char *message) HT_MUST_USE;

#endif
