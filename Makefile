# make quickstart   installs packages, builds, makes example data, tunes and trains a detector on it
# make test         installs packages, builds the program and the tests, runs the fast tests
# make test-slow    the long campaigns: faults and properties
# make fuzz         builds the fuzz targets with clang and runs each for a minute
# make bench        builds and runs the benchmarks
# make bench-autotune   how well the tuner predicts memory: about 200 held-out cases, resumable
BUILD ?= build/release
TORCH ?=
JOBS ?= $(shell nproc)
# kill -9 for each of four campaigns: disk, lmdb, shared RAM, all kinds at once
KILLS ?= 250
# random commands under random memory limits
CASES ?= 60
# every so many-th allocation of a training step is made to fail
STRIDE ?= 7
# of each fuzz target
SECONDS_EACH ?= 60
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
PACKAGES := $(shell sed -n 's/^| `\([a-z0-9.+-]*\)` |.*/\1/p' docs/dependencies.md)
GARMENTS ?= data/garments
CMAKE_FLAGS := -G Ninja -DCMAKE_BUILD_TYPE=Release $(if $(TORCH),-DCMAKE_PREFIX_PATH=$(TORCH))

.PHONY: deps build program quickstart test test-slow fuzz bench bench-autotune format check-format clean

deps:
	@missing=$$(dpkg-query -W -f='$${Package} $${Status}\n' $(PACKAGES) 2>/dev/null \
	  | awk '/ installed$$/{print $$1}' | sort > /tmp/brim-have.$$$$; \
	  printf '%s\n' $(PACKAGES) | sort | comm -23 - /tmp/brim-have.$$$$; rm -f /tmp/brim-have.$$$$); \
	if [ -n "$$missing" ]; then echo "installing:" $$missing; $(SUDO) apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends $$missing; fi

build: deps
	cmake -S . -B $(BUILD) $(CMAKE_FLAGS) -DBRIM_BUILD_TESTS=ON
	cmake --build $(BUILD) -j $(JOBS)

program: deps
	cmake -S . -B $(BUILD) $(CMAKE_FLAGS)
	cmake --build $(BUILD) -j $(JOBS) --target brim

quickstart: program
	$(BUILD)/train/cli/brim data make --task detect --images 2000 --size 320 --classes trouser,pullover,sneaker,bag --out $(GARMENTS)
	$(BUILD)/train/cli/brim tune --config configs/experiments/quickstart.yaml --data $(GARMENTS)/data.yaml
	$(BUILD)/train/cli/brim train --config configs/experiments/quickstart.yaml --data $(GARMENTS)/data.yaml

test: build
	ctest --test-dir $(BUILD) --output-on-failure -L 'unit|integration|reference|package|architecture|gpu' -j $(JOBS); \
	status=$$?; ./tests/list_skipped $(BUILD); exit $$status

test-slow: build
	BRIM_TEST_KILLS=$(KILLS) BRIM_TEST_CASES=$(CASES) BRIM_TEST_STRIDE=$(STRIDE) ctest --test-dir $(BUILD) --output-on-failure -L 'property|fault|slow' ; \
	status=$$?; ./tests/list_skipped $(BUILD); exit $$status

fuzz: deps
	cmake -S . -B build/fuzz $(CMAKE_FLAGS) -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ -DBRIM_FUZZ=ON \
	  -DBRIM_SANITIZE=address,undefined -DBRIM_WITH_TORCH=OFF -DBRIM_BUILD_EXAMPLES=OFF
	cmake --build build/fuzz -j $(JOBS) --target $(patsubst tests/fuzz/%.cpp,%,$(filter-out %weights_fuzz.cpp,$(wildcard tests/fuzz/*_fuzz.cpp)))
	./tests/fuzz/run build/fuzz $(SECONDS_EACH)

bench: deps
	cmake -S . -B $(BUILD) $(CMAKE_FLAGS) -DBRIM_BUILD_BENCHMARKS=ON
	cmake --build $(BUILD) -j $(JOBS)
	./benchmarks/run $(BUILD)

bench-autotune: deps
	cmake -S . -B $(BUILD) $(CMAKE_FLAGS) -DBRIM_BUILD_BENCHMARKS=ON
	cmake --build $(BUILD) -j $(JOBS) --target bench_autotune
	OMP_WAIT_POLICY=passive $(BUILD)/benchmarks/bench_autotune $(BUILD)/autotune.tsv

format:
	git ls-files '*.h' '*.cpp' | xargs clang-format -i

check-format:
	git ls-files '*.h' '*.cpp' | xargs clang-format --dry-run -Werror

clean:
	rm -rf build
