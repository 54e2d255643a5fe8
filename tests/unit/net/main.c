/* Tests of host/net: head.c alone, hostile requests on raw sockets, the server's behaviour, the client. */
#include "net_test.h"

#include <signal.h>

int main(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    int failed = run_head_tests();
    failed += run_hostile_tests();
    failed += run_server_tests();
    failed += run_client_tests();
    return failed == 0 ? 0 : 1;
}
