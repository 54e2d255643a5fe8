int sqlite_offset_tests(void);
int sqlite_offset_tests(void){return 0;}
