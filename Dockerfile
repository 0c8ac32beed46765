# The workbench as an image: target, simulator, load test and JupyterLab (compose.yaml has a service for each).
#   docker build -t workbench .
#   docker run --rm workbench workbench simulate demo
FROM python:3.13-slim

RUN pip install --no-cache-dir uv
WORKDIR /src
COPY pyproject.toml setup.py MANIFEST.in constraints.txt README.md CHANGELOG.md ./
COPY sim sim
COPY loadtests loadtests
COPY data data
COPY notebooks notebooks
# Compiled here: who runs it may not write there, and would compile everything at each start.
RUN uv pip install --system --no-cache --compile-bytecode -c constraints.txt '.[fast,cluster,databases]'

RUN useradd --create-home workbench && mkdir /shared /runs && chown workbench /shared /runs
USER workbench
WORKDIR /home/workbench
COPY --chown=workbench notebooks notebooks
EXPOSE 8000 8080 8888
CMD ["workbench", "--help"]
