/* transport_test.h - what the files of this test share; see transport_test.c. */
#ifndef TRANSPORT_TEST_H
#define TRANSPORT_TEST_H

#include "transport.h"
#include "transport_private.h"

#define CHECK(condition, ...) check(condition, #condition, __LINE__, __VA_ARGS__)
#define EXPECT(e, outcome, status, error, hint) expect(e, outcome, status, error, hint, __LINE__)

extern void check(bool ok, const char *what, int line, const char *fmt,...) pg_attribute_printf(4, 5);
extern int	port_of(const char *name);
extern DmshookEndpoint *endpoint(const char *method, const char *url);
extern DmshookEndpoint *at(const char *method, const char *host, const char *server, const char *path);
extern DmshookTransfer *start(const DmshookEndpoint *e, const char *body);
extern DmshookTransfer *wait_finished(void);
extern DmshookTransfer *request(const DmshookEndpoint *e, const char *body);
extern void expect(const DmshookEndpoint *e, DmshookOutcome outcome, int status, const char *error, const char *hint, int line);
extern bool has(const char *text, const char *part);
extern int	open_files(void);
extern long private_kb(void);

/* faults.c */
extern void test_handshakes(void);
extern void test_answers(void);
extern void test_dead(void);

#endif							/* TRANSPORT_TEST_H */
