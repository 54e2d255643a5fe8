# Compiler flags for every flavour. C17 for our code, C++17 for the few files that wrap a C++ library.
set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)

add_compile_definitions(_GNU_SOURCE)

set(ctd_warnings
    -Wall -Wextra -Werror -Wshadow -Wconversion -Wcast-qual -Wwrite-strings -Wundef -Wvla
    -fno-common -fstack-protector-strong)
set(ctd_c_warnings -Wstrict-prototypes -Wmissing-prototypes)
add_compile_options(
  "$<$<COMPILE_LANGUAGE:C>:${ctd_warnings};${ctd_c_warnings}>"
  "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Werror;-Wshadow;-fno-common;-fstack-protector-strong>")

if(CONNECTD_FLAVOR STREQUAL "release")
  set(CMAKE_C_FLAGS_RELEASE "-O2 -g")
  set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g")
  add_compile_definitions(_FORTIFY_SOURCE=3)
  add_compile_options(-fstack-clash-protection -fcf-protection)
  add_link_options(-Wl,-z,relro,-z,now)
elseif(CONNECTD_FLAVOR STREQUAL "asan")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -O1)
  add_link_options(-fsanitize=address,undefined)
  add_compile_definitions(CONNECTD_SANITIZER=1)
elseif(CONNECTD_FLAVOR STREQUAL "tsan")
  add_compile_options(-fsanitize=thread -fno-omit-frame-pointer -O1)
  add_link_options(-fsanitize=thread)
  add_compile_definitions(CONNECTD_SANITIZER=1)
endif()
# What the host's executables are: position independent, and no symbol of theirs is for plugins.
set(CMAKE_ENABLE_EXPORTS OFF)
set(CMAKE_EXE_LINKER_FLAGS "${CMAKE_EXE_LINKER_FLAGS} -pie")
add_link_options(-Wl,--as-needed)
