# docker build --build-arg VERSION=$(git describe --tags --always) -t phantom .
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
COPY report/fonts/go.mod report/fonts/
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
