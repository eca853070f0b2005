/*
 * What a proxy answers, and what NO_PROXY and a proxy's URL may hold. However the bytes are cut, the conversation comes
 * to the same; it never reads on without an end, and what it tells people is printable.
 *
 * Input: 0 to 3 (HTTP or SOCKS5, with credentials or without) and what the proxy says; 4 and a list, a NUL, and a host;
 * 5 and a URL.
 */
#include "fuzz.h"
#include "io/proxy.h"

#include <strings.h>

static const char *const proxies[] = {"http://p:1", "http://u:w@p:1", "socks5://p:1", "socks5://u:w@p:1"};

static void feed(struct io_hop *h, const struct io_proxy *p, const uint8_t *in, size_t n, size_t piece) {
    io_hop_begin(h, p, "kit.example", 443);
    for (size_t at = 0; at < n; at += piece)
        io_hop_feed(h, in + at, ht_min(piece, n - at));
    FUZZ_CHECK(h->out_len <= sizeof h->out && memchr(h->text.text, 0, sizeof h->text.text));
    FUZZ_CHECK((h->step == IO_HOP_REFUSED) == (h->err != 0));
    for (const char *c = h->text.text; *c; c++)
        FUZZ_CHECK((unsigned char)*c >= ' ' && *c != 0x7f);
}

static void check_talk(const char *url, const uint8_t *in, size_t n) {
    static struct io_hop whole, bytes, pieces;
    struct io_proxy *p;
    const struct io_proxy_config cfg = {.url = url, .from = "--proxy"};
    if (io_proxy_create(&p, &cfg, NULL) < 0)
        return;
    feed(&whole, p, in, n, n ? n : 1);
    feed(&bytes, p, in, n, 1);
    feed(&pieces, p, in, n, 7);
    FUZZ_CHECK(whole.step == bytes.step && whole.step == pieces.step && whole.err == bytes.err);
    FUZZ_CHECK(strcmp(whole.text.text, bytes.text.text) == 0 && strcmp(whole.text.text, pieces.text.text) == 0);
    FUZZ_CHECK(n <= IO_HOP_IN || whole.step != IO_HOP_TALKS);
    io_proxy_destroy(&p);
}

static void check_url(const char *url) {
    struct io_proxy *p;
    struct ht_errmsg err = {""};
    const struct io_proxy_config cfg = {.url = url, .from = "--proxy"};
    if (strncasecmp(url, "https", 5) == 0) /* would read the system's authorities each time */
        return;
    if (io_proxy_create(&p, &cfg, &err) < 0) {
        FUZZ_CHECK(err.text[0] && !p);
        return;
    }
    FUZZ_CHECK(p->host[0] && p->port > 0 && strlen(p->user) <= IO_PROXY_WORD && strlen(p->password) <= IO_PROXY_WORD);
    io_proxy_destroy(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1)
        return 0;
    char *rest = malloc(size + 1);
    if (!rest)
        abort();
    memcpy(rest, data + 1, size - 1);
    rest[size - 1] = rest[size] = '\0';
    if (data[0] < 4)
        check_talk(proxies[data[0]], data + 1, size - 1);
    else if (data[0] == 4)
        io_proxy_skips(rest, rest + strlen(rest) + (strlen(rest) < size - 1), 443);
    else
        check_url(rest);
    free(rest);
    return 0;
}
