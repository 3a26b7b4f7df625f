# tocsin as an image: everything pinned by hash, no root, nothing written but /var/lib/tocsin and /tmp.
#
#   docker build -t tocsin .
#   docker run --read-only --tmpfs /tmp -v tocsin-state:/var/lib/tocsin -v ./tocsin.yaml:/etc/tocsin/tocsin.yaml:ro \
#     -p 127.0.0.1:9760:9760 tocsin
#
# BASE needs Python 3.11 with its module venv. A pip.conf of yours (a mirror, a certificate) goes in as a secret and stays
# in no layer: --secret id=pip,src=pip.conf
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY requirements/runtime.txt requirements/build.txt requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv /opt/build && python3 -m venv --without-pip /opt/tocsin \
    && /opt/build/bin/pip install --only-binary :all: --no-deps --require-hashes -r requirements/build.txt \
    && /opt/build/bin/pip --python /opt/tocsin install --only-binary :all: --no-deps --require-hashes \
       -r requirements/runtime.txt
COPY . .
RUN /opt/build/bin/hatchling build -t wheel \
    && /opt/build/bin/pip --python /opt/tocsin install --no-deps --no-index dist/*.whl \
    && /opt/build/bin/pip --python /opt/tocsin check \
    && mkdir -p /root-of-image/var/lib/tocsin /root-of-image/etc/tocsin \
    && chown 65532:65532 /root-of-image/var/lib/tocsin

FROM ${BASE}
COPY --from=build /opt/tocsin /opt/tocsin
COPY --from=build /root-of-image/ /
ENV PATH=/opt/tocsin/bin:$PATH \
    HOME=/var/lib/tocsin \
    PYTHONDONTWRITEBYTECODE=1 \
    TOCSIN_LISTEN=:9760 \
    TOCSIN_STATE_DIR=/var/lib/tocsin
USER 65532:65532
WORKDIR /var/lib/tocsin
VOLUME /var/lib/tocsin
EXPOSE 9760
ENTRYPOINT ["tocsin"]
CMD ["run", "--config", "/etc/tocsin/tocsin.yaml"]
