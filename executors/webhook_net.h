/*
 * Which addresses a delivery may go to. A receiver's name is somebody else's: it may resolve to an
 * address behind our own firewall.
 */
#ifndef PL_EXECUTORS_WEBHOOK_NET_H
#define PL_EXECUTORS_WEBHOOK_NET_H

#include <stdbool.h>
#include <sys/socket.h>

/* Whether @address is one of the open Internet: not private, loopback, link-local, multicast,
 * reserved, nor an IPv6 form that carries such an IPv4 address. Other families are not. */
bool pl_webhook_address_is_public(const struct sockaddr *address);

#endif
