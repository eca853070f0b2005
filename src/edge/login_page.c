/* What a browser shows to log in and out. No page has a script, and its style is named by its hash. */
#include "base/base64.h"
#include "base/text.h"
#include "edge/login.h"
#include "edge/policy_priv.h"
#include "haproxy_gen.h"

#include <stdio.h>

static const char style[] =
    ":root{color-scheme:light dark}"
    "body{font:16px/1.5 system-ui,sans-serif;margin:0;min-height:100vh;display:grid;place-items:center;"
    "background:light-dark(#f5f6f8,#0e1116);color:light-dark(#191d24,#e7eaf0)}"
    "main{box-sizing:border-box;width:100%;max-width:22em;padding:32px 24px}"
    "h1{font-size:20px;margin:0}p{margin:0 0 16px;overflow-wrap:anywhere;color:light-dark(#586172,#9ba6b7)}"
    "p[role=alert]{color:light-dark(#b31c2c,#ff9494)}"
    "label{display:block;margin-top:12px}"
    "input,button{box-sizing:border-box;width:100%;font:inherit;padding:8px;border-radius:6px;margin-top:4px;"
    "border:1px solid light-dark(#bcc4cf,#465062)}"
    "button{margin-top:24px;background:light-dark(#2f4fc4,#4c69da);color:#fff;border-color:transparent}";

bool edge_page_headers(char out[EDGE_LOGIN_HEADERS]) {
    uint8_t sum[DIGEST];
    char hash[64];
    if (!edge_digest(ht_slice_str(style), ht_slice_of("", 0), sum))
        return false;
    hash[ht_base64_put(hash, sum, sizeof sum)] = '\0';
    /* Browsers follow `form-action` also where the answer to a form leads: the service may go on to a login elsewhere.
     * Origin would be null without a referrer. */
    snprintf(out, EDGE_LOGIN_HEADERS,
             "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\n"
             "Referrer-Policy: same-origin\r\nCross-Origin-Opener-Policy: same-origin\r\n"
             "Cross-Origin-Resource-Policy: same-origin\r\n"
             "Content-Security-Policy: default-src 'none'; style-src 'sha256-%s'; form-action 'self' https:; "
             "base-uri 'none'; frame-ancestors 'none'\r\n",
             hash);
    return true;
}

static int begin(struct ht_buf *b, const char *title) {
    return ht_buf_printf(b,
                         "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n"
                         "<meta name=\"viewport\" content=\"width=device-width\">\n<meta name=\"robots\" "
                         "content=\"noindex\">\n<title>%s</title>\n<style>%s</style>\n<main>\n<h1>%s</h1>\n",
                         title, style, title);
}

/* Texts of ours stand between those of others, which are escaped: one, other, one, other, one. */
static int put(struct ht_buf *b, const char *before, struct ht_slice text, const char *behind) {
    int rc = ht_buf_append_str(b, before);
    if (rc == HT_OK)
        rc = ht_text_html(b, text);
    return rc == HT_OK ? ht_buf_append_str(b, behind) : rc;
}

int edge_page_put_login(struct ht_buf *b, const struct edge_page_login *p) {
    int rc = begin(b, "Log in");
    if (rc == HT_OK)
        rc = put(b, "<p>", p->host, "</p>\n");
    if (rc == HT_OK && p->said)
        rc = put(b, "<p role=\"alert\">", ht_slice_str(p->said), "</p>\n");
    if (rc == HT_OK)
        rc = put(b,
                 "<form method=\"post\" action=\"" HAPROXY_LOGIN_PATH
                 "login\">\n<input type=\"hidden\" name=\"to\" value=\"",
                 p->to, "\">\n");
    if (rc == HT_OK)
        rc = put(b,
                 "<label>Name<input name=\"user\" autocomplete=\"username\" autocapitalize=\"none\" "
                 "spellcheck=\"false\" required autofocus value=\"",
                 p->user, "\"></label>\n");
    return rc == HT_OK ? ht_buf_append_str(b, "<label>Password<input name=\"password\" type=\"password\" "
                                              "autocomplete=\"current-password\" required></label>\n"
                                              "<button>Log in</button>\n</form>\n</main>\n</html>\n")
                       : rc;
}

int edge_page_put_logout(struct ht_buf *b, struct ht_slice host) {
    int rc = begin(b, "Log out");
    if (rc == HT_OK)
        rc = put(b, "<p>", host, "</p>\n");
    return rc == HT_OK ? ht_buf_append_str(b, "<form method=\"post\" action=\"" HAPROXY_LOGIN_PATH
                                              "logout\">\n<button>Log out</button>\n</form>\n</main>\n</html>\n")
                       : rc;
}

int edge_page_put_text(struct ht_buf *b, const char *title, const char *text) {
    int rc = begin(b, title);
    return rc == HT_OK ? put(b, "<p>", ht_slice_str(text), "</p>\n</main>\n</html>\n") : rc;
}
