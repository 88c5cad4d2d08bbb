package io.r2lock;

class SessionWireIT extends SessionWireContract {

    SessionWireIT() {
        super(TestServer.newest());
    }
}
