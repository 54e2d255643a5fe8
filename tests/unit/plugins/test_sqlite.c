int sqlite_tests(void);
int sqlite_tests(void){return 0;}
