# docker build --build-arg VERSION=$(git describe --tags --always) -t phantom .
# The digest names the image, and the tag is for people: what builds the binary does not change
# under its name. A newer one's digest is shown by
# docker buildx imagetools inspect golang:1.26.8-bookworm
FROM golang:1.26.8-bookworm@sha256:a688600ca24f8a4d3ca77f95b0dd40704a9fc787c826660eb7ba0b641b8b175d AS build
WORKDIR /src
COPY go.mod go.sum ./
COPY report/fonts/go.mod report/fonts/
COPY internal/standins internal/standins/
RUN go mod download
COPY . .
ARG VERSION=dev
RUN make build VERSION=$VERSION

# Root certificates and time zones are inside the binary, so the image needs nothing else.
FROM scratch
COPY --from=build /src/bin/phantom /phantom
USER 65534:65534
EXPOSE 8080
ENTRYPOINT ["/phantom"]
