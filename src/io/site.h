/*
 * An authority of one's own for a site: a domain and the hosts one label below it. A browser that trusts the authority
 * trusts it for that domain alone (RFC 5280 4.2.1.10). The caller keeps the texts.
 */
#ifndef HT_IO_SITE_H
#define HT_IO_SITE_H

#include "base/base.h"
#include "base/err.h"

#define IO_SITE_CERT 2048 /* bytes of a certificate's text */
#define IO_SITE_KEY 512   /* bytes of a key's text */

/* Both as PEM, with a NUL. The owner wipes the key. */
struct io_site_pair {
    char cert[IO_SITE_CERT], key[IO_SITE_KEY];
};

/* Makes an authority for `domain`, which is in lower case. It is good for ten years. 0, or HT_ETLS with *err. */
int io_site_authority(const char *domain, struct io_site_pair *out, struct ht_errmsg *err) HT_MUST_USE;
/* Makes a key and a certificate for DOMAIN and *.DOMAIN, and for *.BELOW.DOMAIN when `below` is not NULL, good for
 * `days`. 0, or HT_ETLS with *err: the authority cannot be used, is for another domain, or ends before. */
int io_site_issue(const struct io_site_pair *authority, const char *domain, const char *below, unsigned days,
                  struct io_site_pair *out, struct ht_errmsg *err) HT_MUST_USE;

/* What a certificate says, the first one of a PEM text. */
struct io_site_facts {
    int64_t begins, ends;              /* Unix seconds */
    char subject[128], issuer[128];    /* printable */
    bool vouches_for_itself, fits_key; /* the text has its key as well */
};
/* 0, or HT_ETLS with *err: there is no certificate in it. */
int io_site_look(struct ht_slice pem, struct io_site_facts *out, struct ht_errmsg *err) HT_MUST_USE;
/* The same without a look at the key, which takes most of the time: fits_key is false. */
int io_site_glance(struct ht_slice pem, struct io_site_facts *out, struct ht_errmsg *err) HT_MUST_USE;
/* True when the first certificate of a PEM text is for this host, which has no *. */
bool io_site_is_for(struct ht_slice pem, const char *host);

/* Whether a server of TLS takes the certificate, its chain and its key, as OpenSSL's settings of this machine are: the
 * key may be too short for them. 0, or HT_ETLS with *err. */
int io_site_check(struct ht_slice pem, struct ht_errmsg *err) HT_MUST_USE;

#endif
