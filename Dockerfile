# The proxy's image: `docker build --tag notebook-proxy:0.1.0 .`
# Two stages: what builds is not in what runs. No shell start, no root, no pip.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY proxy proxy
# Bytecode is made once, here: the file system is read-only when it runs. Its validity is not checked against sources
# that cannot change. The environment's own pip goes last.
RUN python -m venv /opt/notebook-proxy \
    && /opt/notebook-proxy/bin/pip install --no-cache-dir --no-compile . \
    && /opt/notebook-proxy/bin/pip uninstall --yes pip \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/notebook-proxy/lib

FROM python:${PYTHON}-slim
# The base image's own pip and its copy in ensurepip: the proxy installs nothing.
RUN python -m pip uninstall --yes pip && rm -rf /usr/local/lib/python3.*/ensurepip
COPY --from=build /opt/notebook-proxy /opt/notebook-proxy
ENV PATH=/opt/notebook-proxy/bin:${PATH} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# A number, so that Kubernetes can tell that it is not root.
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000 8081
ENTRYPOINT ["notebook-proxy"]
CMD ["serve"]
