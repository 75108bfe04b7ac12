#include "program.h"

int main(int argc, char** argv) {
  return brim::cli::run_program(argc, argv);
}
