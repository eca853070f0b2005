#include "web/page.h"

#include "web/web.h"

/* RFC 9110 12.5.3: named, and not with a weight of 0. */
static bool accepts_gzip(struct ht_slice list) {
    struct ht_slice item;
    while (http_list_next(&list, &item)) {
        const char *semicolon = item.n ? memchr(item.p, ';', item.n) : NULL;
        struct ht_slice coding = ht_slice_of(item.p, semicolon ? (size_t)(semicolon - item.p) : item.n);
        while (coding.n && (coding.p[coding.n - 1] == ' ' || coding.p[coding.n - 1] == '\t'))
            coding.n--;
        if (!ht_slice_case_eq(coding, ht_slice_str("gzip")))
            continue;
        const char *q = semicolon ? memmem(semicolon, item.n - (size_t)(semicolon - item.p), "q=", 2) : NULL;
        bool zero = q != NULL;
        for (q += q ? 2 : 0; zero && q < item.p + item.n; q++)
            zero = *q == '0' || *q == '.';
        return !zero;
    }
    return false;
}

bool web_page_reply(struct web_conn *c, const struct web_page *page) {
    const struct web_page_copy *copy = accepts_gzip(web_field(c, "accept-encoding")) ? &page->packed : &page->plain;
    return web_reply(c, &(struct web_reply){
                            .status = 200,
                            .type = "text/html; charset=utf-8",
                            .body = copy->bytes,
                            .extra = copy->headers,
                        });
}
