/*
 * Proxies on the way to a server: which one (URLs, the environment's variables), and what is said to it until the bytes
 * of the connection are the server's own. Nothing here waits or touches a socket: io_dial_start_via() does.
 */
#ifndef HT_IO_PROXY_H
#define HT_IO_PROXY_H

#include "io/io.h"

enum io_proxy_kind { IO_PROXY_HTTP, IO_PROXY_HTTPS, IO_PROXY_SOCKS5 };

#define IO_PROXY_WORD 255 /* most bytes of a user name or password (RFC 1929) */

/* Made by io_proxy_create(), and only read afterwards. */
struct io_proxy {
    enum io_proxy_kind kind; /* HTTP: CONNECT. HTTPS: the same in TLS. SOCKS5: names are resolved there */
    char host[256];          /* without brackets */
    uint16_t port;
    bool has_user;
    char user[IO_PROXY_WORD + 1], password[IO_PROXY_WORD + 1]; /* secrets */
    struct io_tls *tls;                                        /* HTTPS */
    char name[384]; /* for messages: "the proxy corp.example:3128 (HTTPS_PROXY)"; without credentials */
};

struct io_proxy_config {
    /*
     * http://, https://, socks5:// or socks5h://, then [USER[:PASSWORD]@]HOST[:PORT]. Without a scheme it is http://.
     * User and password may be percent-encoded. The default ports are 80, 443 and 1080.
     */
    const char *url;
    const char *from;      /* the option or variable that names it, for messages */
    const char *auth;      /* "USER:PASSWORD" in place of those in the URL; NULL: those */
    const char *ca_file;   /* authorities of an https:// proxy; NULL: the system's */
    const char *ca_option; /* as in struct io_tls_config */
};

/* 0; or HT_EINVAL, HT_ETLS (the CA file) or HT_ENOMEM with *err, which never repeats credentials. */
int io_proxy_create(struct io_proxy **out, const struct io_proxy_config *cfg, struct ht_errmsg *err) HT_MUST_USE;
/* Wipes the secrets. Clears the pointer. NULL is ignored. */
void io_proxy_destroy(struct io_proxy **p);

/* As getenv(). */
typedef char *io_env(const char *name);

/*
 * The proxy that the environment names for a connection to host:port; NULL: none. *from is then the variable.
 *
 *   https_proxy, HTTPS_PROXY   with `tls`
 *   http_proxy, HTTP_PROXY     without. HTTP_PROXY is not looked at where REQUEST_METHOD is set: there it is a header
 * that a visitor has sent (CGI) all_proxy, ALL_PROXY       when those are not set no_proxy, NO_PROXY         hosts that
 * are reached directly, see io_proxy_skips()
 *
 * The lower-case form goes first, and an empty variable counts as not set. localhost and loopback addresses are always
 * reached directly: for a proxy they are another machine.
 */
const char *io_proxy_from_env(io_env *env, bool tls, const char *host, uint16_t port, const char **from);

/*
 * Whether a list as in NO_PROXY has host:port. Its items stand between commas or blanks: a name, which stands for
 * itself and all names below it, with or without a dot or *. before it; an address; a network such as 10.0.0.0/8; each
 * with :PORT behind it when it is for that port alone; or *, which is everything.
 */
bool io_proxy_skips(const char *list, const char *host, uint16_t port);

/* ---- what is said to a proxy: bytes in, bytes out ---- */

#define IO_HOP_OUT 1600         /* most bytes that are said at once */
#define IO_HOP_IN (16u * 1024u) /* most bytes of all that an HTTP proxy answers */
#define IO_HOP_LINE 512         /* of a longer line the rest is not looked at */

enum io_hop_step {
    IO_HOP_TALKS,   /* send what is in `out`, then feed the answer */
    IO_HOP_OPEN,    /* what comes now is the server's */
    IO_HOP_REFUSED, /* `err` and `text` say why, in words that name what helps */
};

struct io_hop {
    const struct io_proxy *proxy;
    enum io_hop_step step;
    const char *host; /* the server */
    uint16_t port;
    uint8_t out[IO_HOP_OUT]; /* to be sent; the caller counts `sent` up, and may feed when it is `out_len` */
    size_t out_len, sent;
    int err;
    struct ht_errmsg text;
    /* what was read of an answer: */
    unsigned phase;
    size_t n_in, n_line, wanted;
    uint8_t line[IO_HOP_LINE];
    uint16_t status;
    bool basic;
    char reason[64], scheme[32], realm[64], location[128];
};

/* `proxy` and `host` must outlive *h. */
void io_hop_begin(struct io_hop *h, const struct io_proxy *proxy, const char *host, uint16_t port);
/* Takes all of p[0..n). What comes behind the last byte of a good answer is refused: the server cannot have spoken yet.
 */
enum io_hop_step io_hop_feed(struct io_hop *h, const uint8_t *p, size_t n);
/* The proxy has closed the connection, or no answer came: sets `err` and `text`. `why` tells people. */
void io_hop_lost(struct io_hop *h, int err, const char *why);

#endif
