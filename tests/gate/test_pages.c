/* The pages for errors. */
#include "gate/pages.h"

#include "support/tap.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void pages(void) {
    char name[] = "/tmp/ht-page-XXXXXX.html", text[80];
    int fd = mkstemps(name, 5);
    static const char page[] = "{status} {title} {code} {message} {x} {";
    struct gate_pages p;
    struct ht_errmsg e;
    struct ht_buf b = {0};
    CU_ASSERT_FATAL(fd >= 0 && write(fd, page, strlen(page)) == (ssize_t)strlen(page));
    snprintf(text, sizeof text, "502=%s", name);
    const char *both[] = {name, text};
    CU_ASSERT_EQUAL_FATAL(gate_pages_load(&p, both, 2, &e), 0);
    CU_ASSERT_PTR_EQUAL(gate_pages_find(&p, 502, RELAY_HTML), &p.pages[1]);
    CU_ASSERT_PTR_EQUAL(gate_pages_find(&p, 403, RELAY_HTML), &p.pages[0]);
    CU_ASSERT_PTR_NULL(gate_pages_find(&p, 403, RELAY_TEXT));
    CU_ASSERT_EQUAL(gate_page_put(&p.pages[0], &b, 502, "a-code", "<b>\"&'"), 0);
    CU_ASSERT(ht_slice_is(ht_buf_slice(&b), "502 Bad Gateway a-code &lt;b&gt;&quot;&amp;&#39; {x} {"));
    p.pages[0].form = RELAY_JSON;
    b.off = b.len = 0;
    CU_ASSERT_EQUAL(gate_page_put(&p.pages[0], &b, 502, "a-code", "\"\\\n"), 0);
    CU_ASSERT(ht_slice_is(ht_buf_slice(&b), "502 Bad Gateway a-code \\\"\\\\\\u000a {x} {"));
    gate_pages_free(&p);
    /* One whose placeholders would fill memory. */
    CU_ASSERT(ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0);
    for (unsigned i = 0; i < GATE_PAGE_FILE / 10; i++)
        CU_ASSERT_EQUAL_FATAL(write(fd, "{message} ", 10), 10);
    CU_ASSERT_EQUAL(gate_pages_load(&p, both, 1, &e), 0);
    b.off = b.len = 0;
    CU_ASSERT_EQUAL(gate_page_put(&p.pages[0], &b, 502, "a-code", "a message of which there are very many here"),
                    HT_ESPACE);
    gate_pages_free(&p);
    CU_ASSERT_EQUAL(ftruncate(fd, GATE_PAGE_FILE + 1), 0);
    CU_ASSERT(gate_pages_load(&p, both, 1, &e) == HT_EIO && strstr(e.text, "more than"));
    gate_pages_free(&p);
    static const char *const bad[] = {"", "=x", "600=x", "5020=x", "502=", "/nonexistent"};
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        CU_ASSERT(gate_pages_load(&p, &bad[i], 1, &e) < 0);
        gate_pages_free(&p);
    }
    ht_buf_free(&b);
    close(fd);
    unlink(name);
}

static const struct tap_test tests[] = {
    {"pages for errors", pages},
    {NULL, NULL},
};

int main(void) { return tap_main("gate, pages", tests); }
