// A meter made of coap-node 0.2.5 (MIT), an LwM2M client of others: what it says to a head-end was recorded in
// coap_node.json (see README.md there). Usage: npm install coap-node@0.2.5; node coap_node.js HOST PORT SERIAL
'use strict';
const SmartObject = require('smartobject');
const CoapNode = require('coap-node');

const [host, port, serial] = process.argv.slice(2);
const meter = new SmartObject();
let registerWh = 7001;
let isClosed = true;

// Energy in kWh, which this client sends as single-precision floats, and a relay.
meter.init(3331, 0, {
    5700: { read: (done) => done(null, registerWh / 1000) },
    5701: 'kWh',
});
meter.init(3312, 0, {
    5850: {
        read: (done) => done(null, isClosed),
        write: (value, done) => { isClosed = value === 1 || value === true; done(null, isClosed); },
    },
});

const node = new CoapNode(serial, meter, { version: '1.0', lifetime: 86400 });
node.register(host, Number(port), (error) => { if (error) { throw error; } });
setInterval(() => { registerWh += 4; meter.read(3331, 0, 5700, () => {}); }, 1000);
process.on('SIGTERM', () => node.deregister(() => process.exit(0)));
