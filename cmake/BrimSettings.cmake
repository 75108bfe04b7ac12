# Language level, build type, compiler cache, sanitizers and warnings for every target of the project.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_INSTALL_RPATH_USE_LINK_PATH ON)  # the installed program finds a LibTorch outside the system's folders
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")

find_program(BRIM_CCACHE ccache)
if(BRIM_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # Precompiled headers need these two sloppiness settings to hit.
  set(CMAKE_CXX_COMPILER_LAUNCHER
      "${CMAKE_COMMAND};-E;env;CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime;${BRIM_CCACHE}")
endif()

set(BRIM_SANITIZE "" CACHE STRING "Sanitizers, as in -fsanitize= (address,undefined or thread)")
if(BRIM_SANITIZE)
  add_compile_options(-fsanitize=${BRIM_SANITIZE} -fno-omit-frame-pointer -g1)
  add_link_options(-fsanitize=${BRIM_SANITIZE})
endif()
if(BRIM_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

add_library(brim_warnings INTERFACE)
target_compile_options(brim_warnings INTERFACE -Wall -Wextra -Wshadow -Wnon-virtual-dtor
                       -Wno-unknown-pragmas $<$<BOOL:${BRIM_WERROR}>:-Werror>)
# Pixel and loss arithmetic must not depend on how a compiler fuses multiply and add (Law 1).
add_compile_options(-ffp-contract=off)
