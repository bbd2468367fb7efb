import fc from 'fast-check';
import { float } from '@xenhost/sxp';
import { serializeMethodCall, serializeMethodResponse } from 'xmlrpc/lib/serializer.js';
import {
  decodeCall,
  decodeResponse,
  encodeCall,
  encodeFault,
  encodeResponse,
  XmlRpcError,
  XmlRpcFault,
  type XmlRpcValue,
} from './index.ts';

const response = (value: string): string =>
  `<?xml version="1.0"?><methodResponse><params><param>${value}</param></params></methodResponse>`;
const call = (params: string): string => `<methodCall><methodName>m</methodName>${params}</methodCall>`;

describe('encoding', () => {
  it.each<[XmlRpcValue, string]>([
    [0, '<value><int>0</int></value>'],
    [-(2 ** 31), '<value><int>-2147483648</int></value>'],
    [float(0), '<value><double>0.0</double></value>'],
    [float(1e-7), '<value><double>0.0000001</double></value>'],
    [float(1e21), '<value><double>1000000000000000000000.0</double></value>'],
    [true, '<value><boolean>1</boolean></value>'],
    [null, '<value><nil/></value>'],
    ['', '<value><string/></value>'],
    ['a<b>&]]>', '<value><string>a&lt;b&gt;&amp;]]&gt;</string></value>'],
    [['domain', ['domid', 0]], '<value><array><data><value><string>domain</string></value><value><array><data><value>' +
      '<string>domid</string></value><value><int>0</int></value></data></array></value></data></array></value>'],
    [{ a: 1 }, '<value><struct><member><name>a</name><value><int>1</int></value></member></struct></value>'],
    [new Date(0), '<value><dateTime.iso8601>19700101T00:00:00</dateTime.iso8601></value>'],
    [Uint8Array.of(1, 2), '<value><base64>AQI=</base64></value>'],
  ])('%j', (value, xml) => {
    expect(encodeResponse(value)).toBe(response(xml));
  }); // prettier-ignore

  it.each<[string, unknown]>([
    ['an integer over 32 bits', 2 ** 31],
    ['a fraction that is no Float', 0.5],
    ['NaN', Number.NaN],
    ['an infinite Float', float(Infinity)],
    ['a bigint', 1n],
    ['undefined', [undefined]],
    ['a function', { f: () => 1 }],
    ['a control character', 'a\x01'],
    ['half a surrogate pair', '\ud800'],
    ['an invalid date', new Date(Number.NaN)],
    ['__proto__', JSON.parse('{"__proto__":1}')],
    ['depth without end', Array.from({ length: 100 }).reduce<unknown>((inner) => [inner], 1)],
  ])('refuses %s', (_name, value) => {
    expect(() => encodeResponse(value as XmlRpcValue)).toThrow(XmlRpcError);
  });

  it('refuses a method name that is none', () => {
    expect(() => encodeCall('a<b', [])).toThrow(XmlRpcError);
  });

  it('puts no white space between tags and shows in a fault what it cannot send', () => {
    expect(encodeFault(new XmlRpcFault(3, 'no\x00pe'))).toBe(
      '<?xml version="1.0"?><methodResponse><fault><value><struct><member><name>faultCode</name><value><int>3</int>' +
        '</value></member><member><name>faultString</name><value><string>no?pe</string></value></member></struct>' +
        '</value></fault></methodResponse>',
    );
  });
});

describe('decoding', () => {
  it.each<[string, XmlRpcValue]>([
    ['<value>bare</value>', 'bare'],
    ['<value/>', ''],
    ['<value> <string> x </string> </value>', ' x '],
    ['<value><i4>7</i4></value>', 7],
    ['<value><i8>4294967296</i8></value>', 4294967296],
    ['<value><int> -3 </int></value>', -3],
    ['<value><double>0.0</double></value>', float(0)],
    ['<value><boolean>0</boolean></value>', false],
    ['<value><nil/></value>', null],
    ['<value><nil></nil></value>', null],
    ['<value><array><data></data></array></value>', []],
    ['<value><struct/></value>', {}],
    ['<value><string><![CDATA[<a>]]>&amp;&#65;</string></value>', '<a>&A'],
    ['<value>&quot;&apos;&lt;&gt;&#x1F600;&#13;</value>', '"\'<>\u{1F600}\r'],
    ['<value><string> </string></value>', ' '],
    ['<value><base64>AQI=</base64></value>', Uint8Array.of(1, 2)],
    ['<value><dateTime.iso8601>19700101T00:00:01</dateTime.iso8601></value>', new Date(1000)],
    ['<value><dateTime.iso8601>1970-01-01T01:00:00.5+01</dateTime.iso8601></value>', new Date(500)],
    ['<value><!-- no --><string>a<!-- b -->c</string></value>', 'ac'],
    ['<value ><int\n>1</int ></value\t>', 1],
    ['<value><array><data><value/><value><int>1</int></value> </data></array></value>', ['', 1]],
    ['<value><struct><member><name>a</name><value>1</value></member></struct></value>', { a: '1' }],
  ])('%s', (xml, value) => {
    expect(decodeResponse(response(xml))).toEqual(value);
    expect(decodeCall(call(`<params><param>${xml}</param></params>`)).params).toEqual([value]);
  });

  it('reads what another library writes', () => {
    const value = ['a<b>&', '', 7, true, 1.5, [], [1, ['x']], { k: 'v', deep: { n: 0 } }, new Date(86_400_000)];
    const read = value.map((item) => (item === 1.5 ? float(1.5) : item));
    expect(decodeCall(serializeMethodCall('a.b', value))).toEqual({ method: 'a.b', params: read });
    expect(decodeResponse(serializeMethodResponse(value))).toEqual(read);
  });

  it('takes a call without params', () => {
    expect(decodeCall(call(''))).toEqual({ method: 'm', params: [] });
    expect(decodeCall(`<?xml version='1.0'?>\n${call('<params>\n</params>')}\n`)).toEqual({ method: 'm', params: [] });
  });

  it('throws the fault of a fault', () => {
    expect(() => decodeResponse(encodeFault(new XmlRpcFault(3, 'dom1')))).toThrow(new XmlRpcFault(3, 'dom1'));
  });

  it.each(['', '<param><value/></param><param><value/></param>'])('refuses a response of %j', (params) => {
    expect(() => decodeResponse(`<methodResponse><params>${params}</params></methodResponse>`)).toThrow(XmlRpcError);
  });

  const member = (name: string): string => `<member><name>${name}</name><value>1</value></member>`;
  it.each([
    ['nothing', ''],
    ['another root', '<html></html>'],
    ['a response where a call is due', response('<value/>')],
    ['an element left open', '<methodCall><methodName>m</methodName>'],
    ['a crossed pair', call('<params><param><value><int>1</value></int></param></params>')],
    ['an unknown element', call('<params><param><value><evil/></value></param></params>')],
    ['two values in a param', call('<params><param><value/><value/></param></params>')],
    ['two types in a value', call('<params><param><value><int>1</int><int>2</int></value></param></params>')],
    ['text beside a type', call('<params><param><value>x<int>1</int></value></param></params>')],
    ['text after a type', call('<params><param><value><int>1</int>x</value></param></params>')],
    ['rubbish after a number', call('<params><param><value><int>12abc</int></value></param></params>')],
    ['an integer over 32 bits', call('<params><param><value><int>2147483648</int></value></param></params>')],
    ['no integer', call('<params><param><value><int></int></value></param></params>')],
    ['a bad boolean', call('<params><param><value><boolean>yes</boolean></value></param></params>')],
    ['a bad double', call('<params><param><value><double>nan</double></value></param></params>')],
    ['bad base64', call('<params><param><value><base64>!</base64></value></param></params>')],
    ['no date', call('<params><param><value><dateTime.iso8601>x</dateTime.iso8601></value></param></params>')],
    ['a member twice', call(`<params><param><value><struct>${member('a')}${member('a')}</struct></value></param></params>`)],
    ['__proto__', call(`<params><param><value><struct>${member('__proto__')}</struct></value></param></params>`)],
    ['a member without value', call('<params><param><value><struct><member><name>a</name></member></struct></value></param></params>')],
    ['a document type', `<!DOCTYPE x [<!ENTITY a "b">]>${call('')}`],
    ['an entity that nobody declared', call('<params><param><value>&bomb;</value></param></params>')],
    ['an ampersand alone', call('<params><param><value>a & b</value></param></params>')],
    ['a reference past the last character', call('<params><param><value>&#x110000;</value></param></params>')],
    ['a reference to what XML cannot carry', call('<params><param><value>&#0;</value></param></params>')],
    ['a control character', call('<params><param><value>a\x01</value></param></params>')],
    ['attributes', '<methodCall a="b"><methodName>m</methodName></methodCall>'],
    ['a value after the params', `<methodCall><methodName>m</methodName><params/><params/></methodCall>`],
    ['no method', '<methodCall><methodName> </methodName></methodCall>'],
    ['an array without data', call('<params><param><value><array/></value></param></params>')],
    ['an end of something else', call('<params><param><value><string>a</int></value></param></params>')],
    ['text between elements', call('x<params/>')],
    ['a second document', call('') + call('')],
    ['depth without end', call(`<params><param>${'<value><array><data>'.repeat(70)}${'</data></array></value>'.repeat(70)}</param></params>`)],
    ['too many values', call(`<params>${'<param><value/></param>'.repeat(200_001)}</params>`)],
    ['too long a document', call(' '.repeat(5 << 20))],
  ])('refuses %s', (_name, xml) => {
    expect(() => decodeCall(xml)).toThrow(XmlRpcError);
  }); // prettier-ignore

  it('refuses a document cut at any place', () => {
    const xml = encodeCall('xend.domain.create', [['vm', ['name', 'a&b'], ['memory', 64]], float(1.5), { k: null }]);
    for (let end = 0; end < xml.length; end += 1) expect(() => decodeCall(xml.slice(0, end))).toThrow(XmlRpcError);
  });
});

// eslint-disable-next-line no-control-regex -- what XML cannot carry
const text = fc.string({ unit: 'binary' }).filter((s) => !/[\0-\x08\x0B\x0C\x0E-\x1F\uFFFE\uFFFF]/.test(s));
const values = fc.letrec<{ value: XmlRpcValue }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    text,
    fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
    fc.boolean(),
    fc.constant(null),
    fc
      .double({ noNaN: true, noDefaultInfinity: true, min: -1e30, max: 1e30 })
      .map((n) => float(Math.fround(n) + 0 || 0)),
    fc.uint8Array({ maxLength: 20 }),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(
      text.filter((s) => s !== '__proto__'),
      tie('value'),
      { maxKeys: 4, noNullPrototype: true },
    ),
  ),
})).value;

describe('round trips', () => {
  it('whatever is encoded comes back', () => {
    fc.assert(
      fc.property(fc.array(values, { maxLength: 4 }), (params) => {
        expect(decodeCall(encodeCall('x.y', params)).params).toEqual(params);
      }),
      { numRuns: 300 },
    );
  });

  it('bytes changed anywhere give a value or an XmlRpcError', () => {
    const xml = encodeCall('a.b', [['x', 1, { k: 'v' }], float(2)]);
    fc.assert(
      fc.property(fc.nat(xml.length - 1), fc.string({ minLength: 1, maxLength: 3 }), (at, put) => {
        try {
          decodeCall(xml.slice(0, at) + put + xml.slice(at + put.length));
        } catch (error) {
          expect((error as Error).name).toBe('XmlRpcError');
        }
      }),
      { numRuns: 500 },
    );
  });
});
