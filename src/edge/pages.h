/* Pages in place of HAProxy's own answers, as entries of the map `pages`. No other room includes it. */
#ifndef HT_EDGE_PAGES_H
#define HT_EDGE_PAGES_H

#include "edge/edge_priv.h"

#define EDGE_PAGES "pages"

/* Whether `json` is an object of pages: the name of a refusal or failure, or a status, -> HTML. 0, HT_EINVAL with *err,
 * which says what is wrong with which page, or HT_ENOMEM. */
int edge_pages_check(struct ht_slice json, struct ht_errmsg *err) HT_MUST_USE;
/* Makes the entries of an owner, such as "project.ID", those that `json` has and no others; .p NULL: none. What is no
 * page is left out. 0 or HT_ENOMEM. */
int edge_pages_set(struct edge_maps *maps, const char *owner, struct ht_slice json) HT_MUST_USE;
/* The same for the whole edge, with files WHAT.html of a folder; NULL: none. 0, or HT_EINVAL, HT_EIO or HT_ENOMEM with
 * *err: no entry has changed. */
int edge_pages_load(struct edge_maps *maps, const char *folder, struct ht_errmsg *err) HT_MUST_USE;

#endif
