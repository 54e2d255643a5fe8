/* All tests of the runner in one binary; each file gives its list. */
#include "tests.h"

#include <signal.h>
#include <sys/prctl.h>

int main(void)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    (void)sigaction(SIGPIPE, &ignore, NULL);
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    int failed = test_load();
    failed += test_source();
    failed += test_fault();
    failed += test_sink();
    failed += test_sandbox();
    return failed;
}
