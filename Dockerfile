# lpdiff in a container, for CPUs; for NVIDIA GPUs: --build-arg EXTRAS=metrics,data,serve,cuda12
#
#   docker build -t lpdiff .
#   docker run --rm -v "$PWD":/data lpdiff restore my_plates --output restored
#   docker run --rm -p 8000:8000 lpdiff serve --host 0.0.0.0 --port 8000
#   docker run --rm --gpus all -v "$PWD":/data lpdiff train --config compact --workdir runs/compact
ARG PYTHON=3.12
FROM python:${PYTHON}-slim AS build
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim
ARG EXTRAS=metrics,data,serve
# The wheel has its dependencies' versions; a CUDA build brings CUDA's libraries as wheels, too.
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir "$(ls /wheels/*.whl)[${EXTRAS}]"
RUN useradd --create-home lpdiff && mkdir /data && chown lpdiff /data
USER lpdiff
WORKDIR /data
ENTRYPOINT ["lpdiff"]
CMD ["--help"]
