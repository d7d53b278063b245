# A toolchain for libraries that run with a glibc older than this machine's: its own gcc, with the
# headers and libraries of an older Debian. tools/old_glibc.py unpacks them into SHEILY_SYSROOT.

set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES SHEILY_SYSROOT)
if(NOT IS_DIRECTORY "${SHEILY_SYSROOT}/usr/include/c++")
    message(FATAL_ERROR "SHEILY_SYSROOT is '${SHEILY_SYSROOT}', without the headers of a C++ library.")
endif()
set(CMAKE_SYSROOT "${SHEILY_SYSROOT}")
file(GLOB cxx "${SHEILY_SYSROOT}/usr/include/c++/*")
file(GLOB gcc_lib "${SHEILY_SYSROOT}/usr/lib/gcc/x86_64-linux-gnu/*")
cmake_path(GET cxx FILENAME version)
set(libraries "${SHEILY_SYSROOT}/usr/lib/x86_64-linux-gnu")

# The C++ library of this machine's gcc wants a newer glibc, so that of the older Debian is used.
# gcc searches the folders that it was installed with before a sysroot's: -B and -L come first.
set(CMAKE_CXX_FLAGS_INIT "-nostdinc++ -isystem ${cxx} -isystem ${SHEILY_SYSROOT}/usr/include/x86_64-linux-gnu/c++/${version}")
foreach(kind EXE SHARED MODULE)
    set(CMAKE_${kind}_LINKER_FLAGS_INIT "-B${libraries} -L${gcc_lib} -L${libraries} -static-libgcc")
endforeach()
