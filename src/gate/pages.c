#include "gate/pages.h"

#include "base/mem.h"
#include "http/http.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static bool ends_in(const char *s, const char *tail) {
    size_t n = strlen(s), t = strlen(tail);
    return n >= t && ht_slice_case_eq(ht_slice_of(s + n - t, t), ht_slice_of(tail, t));
}

static enum relay_form form_of_file(const char *name) {
    return ends_in(name, ".html") || ends_in(name, ".htm") ? RELAY_HTML
           : ends_in(name, ".json")                        ? RELAY_JSON
                                                           : RELAY_TEXT;
}

static int read_file(struct gate_page *p, const char *name, struct ht_errmsg *err) {
    int fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return ht_fail(err, HT_EIO, "%s cannot be opened: %s", name, strerror(errno));
    p->text = ht_malloc(GATE_PAGE_FILE + 1);
    ssize_t got = 0;
    while (p->text && p->n <= GATE_PAGE_FILE && (got = read(fd, p->text + p->n, GATE_PAGE_FILE + 1 - p->n)) > 0)
        p->n += (size_t)got;
    int rc = !p->text                ? ht_fail(err, HT_ENOMEM, "%s", ht_err_text(HT_ENOMEM))
             : got < 0               ? ht_fail(err, HT_EIO, "%s cannot be read: %s", name, strerror(errno))
             : p->n > GATE_PAGE_FILE ? ht_fail(err, HT_EIO, "%s has more than %d bytes", name, GATE_PAGE_FILE)
                                     : HT_OK;
    close(fd);
    return rc;
}

/* "STATUS=FILE" or "FILE". */
static int load_one(struct gate_page *p, const char *text, struct ht_errmsg *err) {
    const char *equals = strchr(text, '='), *name = text;
    size_t digits = strspn(text, "0123456789");
    if (equals && text + digits == equals) {
        unsigned status = digits == 3 ? (unsigned)((text[0] - '0') * 100 + (text[1] - '0') * 10 + (text[2] - '0')) : 0;
        if (status < 400 || status > 599)
            return ht_fail(err, HT_EINVAL, "\"%.80s\": left of the = stands a status from 400 to 599, or nothing",
                           text);
        p->status = (uint16_t)status;
        name = equals + 1;
    }
    if (!*name)
        return ht_fail(err, HT_EINVAL, "\"%.80s\": the name of a file is missing; write 502=sorry.html or sorry.html",
                       text);
    p->form = form_of_file(name);
    return read_file(p, name, err);
}

int gate_pages_load(struct gate_pages *p, const char *const *texts, size_t n, struct ht_errmsg *err) {
    *p = (struct gate_pages){.n = 0};
    if (n > GATE_PAGES_MAX)
        return ht_fail(err, HT_EINVAL, "%zu pages for errors are too many: at most %d", n, GATE_PAGES_MAX);
    for (size_t i = 0; i < n; i++) {
        if (!texts[i])
            return ht_fail(err, HT_EINVAL, "a page for errors is NULL");
        int rc = load_one(&p->pages[p->n++], texts[i], err);
        if (rc < 0)
            return rc;
    }
    return HT_OK;
}

void gate_pages_free(struct gate_pages *p) {
    for (size_t i = 0; i < p->n; i++)
        ht_free(p->pages[i].text);
    *p = (struct gate_pages){.n = 0};
}

const struct gate_page *gate_pages_find(const struct gate_pages *p, uint16_t status, enum relay_form form) {
    const struct gate_page *any = NULL;
    for (size_t i = 0; i < p->n; i++) {
        const struct gate_page *page = &p->pages[i];
        if (page->form == form && page->status == status)
            return page;
        if (page->form == form && page->status == 0 && !any)
            any = page;
    }
    return any;
}

/* Writes what stands for the placeholder at `at`. Returns its length; 0: there is none. */
static size_t put_placeholder(struct ht_buf *b, enum relay_form form, struct ht_slice at, const char *const words[4],
                              int *rc) {
    static const char *const names[] = {"{status}", "{title}", "{code}", "{message}"};
    for (size_t i = 0; i < HT_ARRAY_LEN(names); i++) {
        size_t n = strlen(names[i]);
        if (at.n < n || memcmp(at.p, names[i], n) != 0)
            continue;
        *rc = relay_form_escape(b, form, ht_slice_str(words[i]));
        return n;
    }
    return 0;
}

int gate_page_put(const struct gate_page *p, struct ht_buf *b, uint16_t status, const char *code, const char *message) {
    char digits[8];
    const char *const words[4] = {digits, http_reason(status), code, message};
    size_t begin = ht_buf_size(b);
    int rc = HT_OK;
    snprintf(digits, sizeof digits, "%u", status);
    for (size_t at = 0; rc == HT_OK && at < p->n;) {
        const char *next = memchr(p->text + at, '{', p->n - at);
        size_t plain = next ? (size_t)(next - p->text) - at : p->n - at;
        rc = ht_buf_append(b, p->text + at, plain);
        at += plain;
        size_t n = rc == HT_OK && next ? put_placeholder(b, p->form, ht_slice_of(next, p->n - at), words, &rc) : 0;
        if (rc == HT_OK && next && n == 0) {
            rc = ht_buf_append(b, "{", 1);
            n = 1;
        }
        at += n;
        if (rc == HT_OK && ht_buf_size(b) - begin > GATE_PAGE_OUT)
            rc = HT_ESPACE;
    }
    return rc;
}
